terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0"
    }
  }

  # Where the state is kept is yours to say, in a backend.tf beside this file; docs/deploy-google.md has an example.
}

provider "google" {
  project = var.place.project
  region  = var.place.region

  default_labels = { product = var.name }
}
