"""The recording on disk: one SQLite file, its schema, its writer and its reader."""
