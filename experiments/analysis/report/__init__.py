"""A page that shows all a study leaves: its tables, figures, curves and searches.

`results` shows every kind of JSON a study writes, `page` and `comparison` put one or
several studies on a page, and `document` writes a page as HTML and as Markdown.
"""
