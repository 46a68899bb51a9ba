"""Films made of sprites, and subjects who watch them. Everything made here is labelled simulated.

`films` (with `sprites`, `settings`) draws; `areas` says what drives which area; `features` takes from a film what
drives the subjects; `subjects` draws their tuning; `forward` makes responses and noise; `raw` writes runs as Wen 2018
lie on disk. Import the modules themselves: this package stays empty, because drawing a film needs none of the forward
model's packages.
"""
