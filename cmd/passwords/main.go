// Command passwords writes functions/users/common/passwords.bin: a binary fuse filter over the passwords that people
// choose most, which users refuses as new ones.
//
//	go run -C cmd/passwords .            writes the file
//	go run -C cmd/passwords . -check     reports whether it is stale, and writes nothing
//
// The list is that of zxcvbn (47,000 passwords from leaks, MIT License), which the module github.com/trustelem/zxcvbn
// has. This is a module of its own, so that no program of the kit depends on the list.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"

	"github.com/FastFilter/xorfilter"
	"github.com/trustelem/zxcvbn/frequency"
)

// file is the filter, from the folder of this command.
const file = "../../functions/users/common/passwords.bin"

// shortest is the length in bytes of the shortest password in the filter. Shorter ones are refused by their length,
// also when a password repeats one.
const shortest = 4

func main() {
	check := flag.Bool("check", false, "report whether the file is stale and write nothing")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "passwords:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	var keys []uint64
	for _, password := range frequency.FrequencyLists["passwords"] {
		if len(password) >= shortest {
			keys = append(keys, key(password))
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	filter, err := xorfilter.NewBinaryFuse[uint16](keys)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := filter.Save(&out); err != nil {
		return err
	}
	if check {
		stored, err := os.ReadFile(file)
		if err == nil && !bytes.Equal(stored, out.Bytes()) {
			err = errors.New("functions/users/common/passwords.bin is stale: run make generate")
		}
		return err
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}

// key returns the key of a password in the filter. Package users has the same.
func key(password string) uint64 {
	sum := sha256.Sum256([]byte(password))
	return binary.LittleEndian.Uint64(sum[:])
}
