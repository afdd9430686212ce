"""The stages of a snap sync and what joins them."""
