"""Films made of sprites, and simulated subjects who watch them. Everything made here is labelled as simulated.

`films` (with `sprites`, `settings`) draws the films; `areas` defines what drives each area; `features` extracts these
drivers from a film; `subjects` draws the tuning of subjects; `forward` computes responses and noise; `raw` writes runs
in the layout of Wen 2018. Import the modules directly: the package itself is empty, because drawing a film needs none
of the forward model's dependencies.
"""
