"""A Kubernetes cluster, as far as the scaler and the jobs that run there need it."""
