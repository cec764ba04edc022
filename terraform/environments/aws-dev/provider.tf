terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }

  # Where the state is kept is yours to say, in a backend.tf beside this file; docs/deploy-aws.md has an example.
}

provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account] # nothing lands in whichever account is current

  default_tags {
    tags = { product = var.name }
  }
}
