"""What the paper does not have; each part can be switched off (docs/beyond-the-paper.md)."""
