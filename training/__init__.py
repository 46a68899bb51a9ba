"""Training of every model; `mindviz` never imports it."""
