"""The data management server: documents, histories and blobs of one host."""
