"""The report: decode a subject's test windows, compare with baselines and ceilings, write JSON, Markdown and HTML.

``python -m mindviz evaluate`` needs no judge; ``python -m training.studies.report`` adds that of the demo world.
"""
