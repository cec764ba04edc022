module github.com/ebb-dev/ebb/test/crds

go 1.26.0
