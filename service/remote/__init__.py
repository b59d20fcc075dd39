"""A home that lies in a store: s3://, gs://, hdfs:// or file://."""
