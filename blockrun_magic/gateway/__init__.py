"""What is said to BlockRun: requests, the catalog, gateways and the HTTP client."""
