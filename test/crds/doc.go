// Package crds validates the Kubernetes objects that Terraform's plans make, as an API server does that has the CRDs of
// Knative and of the Prometheus operator. It is a module of its own: the product needs none of what it imports. `make
// crds` runs its tests.
package crds

import (
	// The modules whose CRDs the tests read. Their packages have the files or nothing.
	_ "github.com/prometheus-operator/prometheus-operator/example/prometheus-operator-crd"
	_ "knative.dev/eventing/config/channels/in-memory-channel/resources"
	_ "knative.dev/networking/pkg/apis/networking"
	_ "knative.dev/serving/config/core/300-resources"
)
