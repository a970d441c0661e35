package machine

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

// TestFits asks kernels for drivers: any kernel that has one is enough, and where no
// kernel shows what it has, nothing is refused.
func TestFits(t *testing.T) {
	kernel := func(dir, order, builtin string) fs.FS {
		root := fstest.MapFS{}
		for name, text := range map[string]string{"modules.order": order, "modules.builtin": builtin} {
			if text != "" {
				root[dir+"/"+name] = &fstest.MapFile{Data: []byte(text)}
			}
		}
		return root
	}
	cloud := kernel("usr/lib/modules/6-cloud", "kernel/drivers/block/virtio_blk.ko\nkernel/drivers/usb/storage/usb-storage.ko.xz\n", "kernel/drivers/nvme/host/nvme.ko\n")
	plain := kernel("lib/modules/7", "kernel/drivers/scsi/megaraid/megaraid_sas.ko.zst\n", "")
	bare := fstest.MapFS{"lib/modules/8/kernel/x.ko": &fstest.MapFile{}}
	for _, c := range []struct {
		roots []fs.FS
		at    string
		want  string
	}{
		{[]fs.FS{cloud}, "virtio-blk", ""},
		{[]fs.FS{cloud}, "usb", ""},
		{[]fs.FS{cloud}, "nvme", ""},
		{[]fs.FS{cloud}, "sata", "6-cloud has no driver for the controller sata (module ahci): it has those for virtio-blk, nvme, usb"},
		{[]fs.FS{cloud, plain}, "megasas", ""},
		{[]fs.FS{cloud, plain}, "lsi", "6-cloud, 7 has no driver"},
		{[]fs.FS{bare, fstest.MapFS{}}, "lsi", ""},
		{nil, "lsi", ""},
	} {
		err := fits(c.roots, c.at)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.at, err, c.want)
		}
	}
}
