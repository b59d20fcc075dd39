"""What did the sweep find? Tidy data, statistics, figures, the report; it runs nothing."""
