package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"b9.build/b9/engine/internal/blob"
)

// A bundle is a tree as one file: a line with the length of the manifest in
// bytes, the manifest, and the content of every file in the order of its
// entries.
const bundleTag = "b9 bundle 1 "

// Bundle writes the tree object d to a new file at dst.
func (s *Store) Bundle(ctx context.Context, d Digest, dst string) (err error) {
	defer s.annotate(&err, dst, "bundle tree %s", d)
	m, err := s.manifest(d)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	text := m.Encode()
	if _, err := fmt.Fprintf(out, "%s%d\n%s", bundleTag, len(text), text); err != nil {
		return err
	}
	for _, e := range m.Entries {
		if e.Type != typeFile {
			continue
		}
		// It leaves the machine, so it is read in whole, whatever stat says.
		if ok, err := s.inspect(ctx, Object{Kind: File, Digest: e.Digest}); !ok || err != nil {
			return errors.Join(fmt.Errorf("the content of %q is damaged or gone: build again", e.Path), err)
		}
		if err := errors.Join(ctx.Err(), s.appendFile(out, e.Digest, e.Size)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) appendFile(out *os.File, d Digest, size int64) error {
	in, err := s.Open(d)
	if err != nil {
		return err
	}
	defer in.Close()
	n, err := io.Copy(out, blob.Reader(in))
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes and not %d", d, n, size)
	}
	return err
}

// AdoptBundle stores the tree in a bundle. The bundle may come
// from anyone: the object that is returned is what it holds, whatever it was
// said to hold. The bundle is left as it is.
func (s *Store) AdoptBundle(ctx context.Context, path string) (_ Object, err error) {
	defer s.annotate(&err, s.dir, "adopt the bundle %s", path)
	f, err := os.Open(path)
	if err != nil {
		return Object{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Object{}, err
	}
	in := bufio.NewReaderSize(f, 1<<20)
	m, err := readBundleHead(in, info.Size())
	if err != nil {
		return Object{}, err
	}
	work, err := s.Scratch("bundle")
	if err != nil {
		return Object{}, err
	}
	defer func() { err = errors.Join(err, work.Close()) }()
	nodes, err := unpackBundle(ctx, in, m, work.Dir())
	if err != nil {
		return Object{}, err
	}
	return s.storeTree(ctx, nodes, m.Full)
}

// readBundleHead reads the manifest of a bundle of so many bytes.
func readBundleHead(in *bufio.Reader, size int64) (*manifest, error) {
	var n int64
	if _, err := fmt.Fscanf(in, bundleTag+"%d\n", &n); err != nil || n < 0 || n > size {
		return nil, errors.New("it is no bundle")
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(in, text); err != nil {
		return nil, fmt.Errorf("its manifest: %w", err)
	}
	return decodeManifest(text)
}

// unpackBundle writes each file to dir, under its number.
func unpackBundle(ctx context.Context, in *bufio.Reader, m *manifest, dir string) ([]node, error) {
	nodes := make([]node, len(m.Entries))
	for i, e := range m.Entries {
		nodes[i] = node{entry: e}
		if e.Type != typeFile {
			continue
		}
		nodes[i].file = filepath.Join(dir, fmt.Sprint(i))
		if err := errors.Join(ctx.Err(), unpackFile(in, nodes[i].file, e.Size)); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	if _, err := in.ReadByte(); err != io.EOF {
		return nil, errors.New("there is more in it than its manifest says")
	}
	return nodes, nil
}

func unpackFile(in io.Reader, path string, size int64) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(out, in, size)
	return errors.Join(err, out.Close())
}
