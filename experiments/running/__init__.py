"""How trainings are carried out: what they do, who does them, what is kept of them.

`joint` trains a row, `ticket_cache` finds its masks, `crew` and `workers` deal out the
work, `workdir` and `progress` keep what is done, `monitor` shows it.
"""
