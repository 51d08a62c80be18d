"""Speed, as ratios between two sides measured in one run: `python -m bench [--quick] [--json FILE]`."""
