"""A recording for other programs: Perfetto, Parquet, NDJSON, CSV, strace's text, graphs, the schema."""
