"""Layout `table`: interaction logs and item metadata from CSV, JSON and Parquet files."""
