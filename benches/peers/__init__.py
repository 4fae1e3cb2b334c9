"""What benches/peers.py is made of: setting up, measuring, comparing, and a script for each peer."""
