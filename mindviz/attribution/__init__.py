"""Where a decoding comes from: attention, gradients, patterns, lesions, and their controls."""
