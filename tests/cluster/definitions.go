//go:build definitions

package main

// What cargo xtask cluster makes custom resource definitions of: named here so that go.mod keeps them.
import (
	_ "github.com/cloudnative-pg/cloudnative-pg/api/v1"
	_ "github.com/fluxcd/helm-controller/api/v2"
	_ "github.com/fluxcd/image-automation-controller/api/v1"
	_ "github.com/fluxcd/kustomize-controller/api/v1"
	_ "github.com/fluxcd/source-controller/api/v1"
)
