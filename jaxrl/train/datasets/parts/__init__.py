"""What several datasets share; packages are no datasets."""
