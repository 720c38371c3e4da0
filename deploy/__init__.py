"""What it takes to run the project elsewhere than on one machine."""
