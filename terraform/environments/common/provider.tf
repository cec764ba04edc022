terraform {
  required_version = ">= 1.9"

  required_providers {
    kubectl = {
      source  = "gavinbunney/kubectl"
      version = "~> 1.19"
    }
  }

  # Where the state is kept is yours to say, in a backend.tf beside this file; terraform/README.md has an example.
}

provider "kubectl" {
  config_path    = var.kubeconfig
  config_context = var.kube_context
}
