"""GIFTI, CIFTI and NIfTI, read and written; maps and parcellations of a person's own."""
