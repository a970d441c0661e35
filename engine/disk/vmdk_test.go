package disk

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/engine/disk/image"
)

// TestDescriptorsOfESXi reads a flat disk as ESXi describes it, and in any case.
func TestDescriptorsOfESXi(t *testing.T) {
	dir := t.TempDir()
	raw := scattered(t, 5, 3<<20)
	if err := os.Rename(raw, filepath.Join(dir, "x-flat.vmdk")); err != nil {
		t.Fatal(err)
	}
	flat := filepath.Join(dir, "x-flat.vmdk")
	head := "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=fffffffe\nparentCID=ffffffff\n"
	for _, text := range []string{
		head + "createType=\"vmfs\"\n\n# Extent description\nRW 6144 VMFS \"x-flat.vmdk\"\n\n# The Disk Data Base \n#DDB\n\nddb.adapterType = \"lsilogic\"\nddb.thinProvisioned = \"1\"\n",
		head + "CREATETYPE = \"vmfs\"\nrw 6144 vmfs \"x-flat.vmdk\"\r\n",
		head + "createType=\"monolithicFlat\"\nrdonly\t6144  Flat\t\"x-flat.vmdk\" 0\n",
	} {
		path := filepath.Join(dir, "x.vmdk")
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		at, err := Compare(context.Background(), mustOpen(t, path, "vmdk", image.OpenOptions{Extents: true}), mustOpen(t, flat, "raw", image.OpenOptions{}))
		if err != nil || at >= 0 {
			t.Errorf("%q: different at %d, %v", text, at, err)
		}
	}
	for text, want := range map[string]string{
		head + "createType=\"vmfs\"\n":                                           "vmdk descriptor without an extent",
		head + "RW 6144 VMFSSPARSE \"x-flat.vmdk\"\n":                            `extents of the kind "VMFSSPARSE" are not supported`,
		head + "RW 6144 VMFSRDM \"x-rdm.vmdk\"\n":                                `extents of the kind "VMFSRDM" are not supported`,
		head + "RW 6144 SESPARSE \"x-sesparse.vmdk\"\n":                          `extents of the kind "SESPARSE" are not supported`,
		head + "RW 6144 FLAT \"x-flat.vmdk\" 0\nRWX 6144 FLAT \"x-flat.vmdk\"\n": "it is neither an extent",
		head + "RW=6144 FLAT \"x-flat.vmdk\" 0\n":                                "vmdk descriptor without an extent",
		head + "hello world\n":                                                   `line "hello world": it is neither an extent`,
		head + "noaccess 6144 ZERO\n":                                            "an extent without access",
		head + "RW 0 VMFS \"x-flat.vmdk\"\n":                                     "an extent of no sectors",
		head + "RW 6144 FLAT \"x-flat.vmdk\" 0\nRW 0 ZERO\n":                     "an extent of no sectors",
		head + "rw 6144\n":                                                       `extents of the kind ""`,
	} {
		path := filepath.Join(dir, "x.vmdk")
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		img, err := Open(path, "vmdk", image.OpenOptions{Extents: true})
		if err == nil {
			t.Errorf("%q is opened, as a disk of %d bytes", text, img.Size())
			img.Close()
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// inspect asks an inspector of OpenStack's what an image is. Their packages need half of
// OpenStack when they are imported; this module alone needs a logger.
const inspect = `
import importlib.util, logging, os, sys, types
log = types.ModuleType("oslo_log"); log.log = types.ModuleType("oslo_log.log")
log.log.getLogger = logging.getLogger
sys.modules.setdefault("oslo_log", log); sys.modules.setdefault("oslo_log.log", log.log)
for d in sys.path:
    path = os.path.join(d, sys.argv[1], "format_inspector.py")
    if os.path.exists(path):
        break
else:
    sys.exit(3)
spec = importlib.util.spec_from_file_location("format_inspector", path)
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
found = module.detect_file_format(sys.argv[2])
print(found, found.virtual_size, found.safety_check())
`

// TestOpenStackKnowsOurImages asks the inspectors through which Nova and Glance let
// images in.
func TestOpenStackKnowsOurImages(t *testing.T) {
	tool(t, "/usr/bin/python3") // which sees Debian's libraries
	const size = 70 << 20       // several tables of grains
	src := scattered(t, 8, size)
	script := filepath.Join(t.TempDir(), "inspect.py")
	if err := os.WriteFile(script, []byte(inspect), 0o666); err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, c := range []struct{ format, subformat string }{
		{"vmdk", "streamOptimized"}, {"vmdk", "monolithicSparse"}, {"qcow2", ""}, {"vdi", ""}, {"vhd", "dynamic"}, {"vhdx", ""},
	} {
		dst := filepath.Join(t.TempDir(), "x."+c.format)
		if err := Convert(context.Background(), mustOpen(t, src, "raw", image.OpenOptions{}), dst, c.format, image.WriteOptions{Subformat: c.subformat}); err != nil {
			t.Fatal(err)
		}
		for _, inspector := range []string{"nova/image", "glance/common", "cinder/image"} {
			out, err := exec.Command("/usr/bin/python3", script, inspector, dst).CombinedOutput()
			if err != nil && strings.Contains(err.Error(), "exit status 3") {
				t.Logf("%s is not installed", inspector)
				continue
			}
			asked++
			if want := fmt.Sprintf("%s %d True\n", qemuName(c.format), size); err != nil || string(out) != strings.Replace(want, "vpc", "vhd", 1) {
				t.Errorf("%s %s: %s says %q, %v", c.format, c.subformat, inspector, out, err)
			}
		}
	}
	if asked == 0 {
		t.Skip("no inspector is installed (Debian packages python3-nova, python3-glance)")
	}
}
