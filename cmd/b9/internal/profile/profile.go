// Package profile records where b9 spends time and memory, for those who work on
// it: [Flags] are the hidden flags --cpuprofile, --memprofile and --trace. It
// evaluates nothing; go tool pprof and go tool trace do.
package profile

import (
	"errors"
	"os"
	"runtime"
	"runtime/pprof"
	"runtime/trace"

	"github.com/spf13/pflag"
)

// Flags are the files that are written, "" for none.
type Flags struct{ cpu, memory, trace string }

// Register adds the flags, which no help shows.
func (f *Flags) Register(to *pflag.FlagSet) {
	to.StringVar(&f.cpu, "cpuprofile", "", "write a profile of the processor time to `FILE`, for go tool pprof")
	to.StringVar(&f.memory, "memprofile", "", "write a profile of the allocations to `FILE`, for go tool pprof")
	to.StringVar(&f.trace, "trace", "", "write what the scheduler of Go does to `FILE`, for go tool trace")
	for _, name := range []string{"cpuprofile", "memprofile", "trace"} {
		to.Lookup(name).Hidden = true
	}
}

// Start begins to record. Stop ends it and writes what is left to write; it is
// never nil.
func (f *Flags) Start() (stop func() error, err error) {
	var ends []func() error
	stop = func() error {
		var err error
		for _, end := range ends {
			err = errors.Join(err, end())
		}
		return err
	}
	for _, r := range []struct {
		path  string
		begin func(*os.File) (end func() error, err error)
	}{{f.cpu, processor}, {f.trace, scheduler}, {f.memory, allocations}} {
		if r.path == "" {
			continue
		}
		file, err := os.Create(r.path)
		if err != nil {
			return stop, err
		}
		end, err := r.begin(file)
		if err != nil {
			return stop, errors.Join(err, file.Close())
		}
		ends = append(ends, func() error { return errors.Join(end(), file.Close()) })
	}
	return stop, nil
}

func processor(f *os.File) (func() error, error) {
	return func() error { pprof.StopCPUProfile(); return nil }, pprof.StartCPUProfile(f)
}

func scheduler(f *os.File) (func() error, error) {
	return func() error { trace.Stop(); return nil }, trace.Start(f)
}

func allocations(f *os.File) (func() error, error) {
	return func() error {
		runtime.GC() // the profile is that of the last collection
		return pprof.Lookup("allocs").WriteTo(f, 0)
	}, nil
}
