// Package crds validates the Kubernetes objects that Terraform's plans make, as an API server does that has the CRDs of
// Knative and of the Prometheus operator. It is a module of its own: the product needs none of what it imports. `make
// crds` runs its tests.
package crds
