"""The notebooks: percent scripts, each beside the notebook that it makes when it is executed."""
