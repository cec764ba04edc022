// Package cluster tests the shop on a real Kubernetes with Knative: make e2e. The environment names the cluster. The
// test applies the dev environment to it with Terraform, and destroys it at the end. See docs/testing.md.
package cluster
