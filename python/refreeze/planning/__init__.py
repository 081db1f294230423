"""What an ingest is to do, decided from the metadata of sources and target before anything is listed."""
