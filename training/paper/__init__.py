"""The paper's hyper-parameters at full size, and what a step of each stage costs."""
