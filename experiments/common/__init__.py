"""Code that all experiments share."""
