package nat

import (
	"io"
	"net"
	"os"
	"sync"
	"testing"
)

// BenchmarkOpen makes a network and takes it away.
func BenchmarkOpen(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	for b.Loop() {
		n, err := Open(Config{})
		if err != nil {
			b.Fatal(err)
		}
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPass sends 1 MiB at a time through a connection from the namespace, or
// to it.
func BenchmarkPass(b *testing.B) {
	for _, way := range []string{"up", "down"} {
		b.Run(way, func(b *testing.B) { benchmarkPass(b, way == "up") })
	}
}

func benchmarkPass(b *testing.B, up bool) {
	outside, inside := connected(b)
	from, to := outside, inside
	if up {
		from, to = inside, outside
	}
	var reader sync.WaitGroup
	reader.Go(func() { _, _ = io.Copy(struct{ io.Writer }{io.Discard}, to) })
	data := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := from.Write(data); err != nil {
			b.Fatal(err)
		}
	}
	from.Close()
	reader.Wait()
}

// connected is a connection out of a namespace: the end here, and the one there.
func connected(b *testing.B) (outside, inside net.Conn) {
	b.Helper()
	l, err := net.Listen("tcp", hostAddress(b)+":0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	n := open(b, Config{})
	b.Cleanup(func() { n.Close() })
	within(b, n, func() (err error) {
		inside, err = net.Dial("tcp", l.Addr().String())
		return err
	})
	if outside, err = l.Accept(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { inside.Close(); outside.Close() })
	return outside, inside
}
