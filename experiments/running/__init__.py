"""How a study is carried out: its trainings, who does them, what is kept of them.

`study` trains rows, `ticket_cache` finds their masks, `crew` and `workers` deal out the
work, `workdir` and `progress` keep what is done, `monitor` shows it.
"""
