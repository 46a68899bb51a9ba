"""The report: decode the test windows of one subject, compare with baselines and ceilings, write JSON, Markdown, HTML.

``python -m mindviz evaluate`` needs no judge; ``python -m training.studies.report`` adds the demo world's.
"""
