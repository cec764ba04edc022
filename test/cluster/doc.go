// Package cluster proves the shop on a real Kubernetes with Knative: make e2e. It takes the cluster as it is given by
// the environment, puts the dev environment on it by terraform apply, and takes it away again. See docs/testing.md.
package cluster
