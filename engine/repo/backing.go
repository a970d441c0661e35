package repo

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"b9.build/b9/engine/internal/sparse"
)

// Ref names a version as [PushSpec].Parent does: name@version.
func (v Version) Ref() string { return v.Name + "@" + v.Version }

// checkRelations checks the parent, and refuses a qcow2 file that needs a backing
// file, because whoever pulls it would not have that.
func (s PushSpec) checkRelations() error {
	if s.Parent != "" {
		name, version, _ := strings.Cut(s.Parent, "@")
		if ValidName(name) != nil || ValidName(version) != nil {
			return fmt.Errorf("parent %q is not the name@version of a shared image", s.Parent)
		}
	}
	if s.Format != "qcow2" {
		return nil
	}
	name, err := qcow2Backing(s.Path)
	if err != nil || name == "" {
		return err
	}
	return fmt.Errorf("%s needs the backing file %q, which those who pull would lack: publish an image that stands alone (b9 image convert makes one)", s.Path, name)
}

// qcow2Backing returns the name of the backing file in a qcow2 header (QEMU's
// docs/interop/qcow2.txt, section "Header"); "" if there is none, or no such
// header. The file that it names is not looked for.
func qcow2Backing(path string) (string, error) {
	f, _, err := sparse.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const magic, maxName = "QFI\xfb", 1023
	var head [20]byte
	if _, err := f.ReadAt(head[:], 0); err == io.EOF || err == nil && string(head[:4]) != magic {
		return "", nil
	} else if err != nil {
		return "", err
	}
	off, length := binary.BigEndian.Uint64(head[8:]), binary.BigEndian.Uint32(head[16:])
	if off == 0 || length == 0 {
		return "", nil
	}
	name := make([]byte, min(length, maxName))
	n, err := f.ReadAt(name, int64(min(off, 1<<62))) // past the end of any file, and the kernel takes it
	if err != nil && err != io.EOF {
		return "", err
	}
	return string(name[:n]) + strings.Repeat("?", len(name)-n), nil
}
