"""Tables of Meta Kaggle: CSV files of any size, read piece by piece."""
