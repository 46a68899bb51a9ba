"""What several tests share: sizes, small models, a page under test."""
