package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/vm"
)

// ErrNoLoader says that a disk has nothing that a firmware starts.
var ErrNoLoader = errors.New("it has neither an EFI system partition with EFI/BOOT/BOOTX64.EFI nor boot code for a BIOS")

// Disk is a machine for a disk that comes without one: file is its name, and format how it
// is stored, while img reads it. The firmware is one that finds a loader on it; where both
// do, it is UEFI if this host has one.
func Disk(name, file, format string, img disk.Image) (*vm.Machine, error) {
	if !slices.Contains(vm.DiskFormats(), format) {
		return nil, fmt.Errorf("a machine has no disks in the format %s: convert it with `b9 image convert` to one of %s", format, strings.Join(vm.DiskFormats(), ", "))
	}
	firmware, err := firmwareOf(img)
	if err != nil {
		return nil, err
	}
	d := vm.Disk{File: file, Format: format, Controller: vm.Controllers()[0]}
	if info, err := fsys.ProbeAt(img, img.Size()); err == nil && info.Type == "iso9660" && format == "raw" {
		d.CD, d.Controller = true, "sata"
	}
	return &vm.Machine{
		Name: machineName(name), Memory: 1 << 30, CPUs: 1, Type: vm.Types()[0], Firmware: firmware,
		Disks: []vm.Disk{d}, NICs: []vm.NIC{{Model: vm.NICModels()[0]}},
	}, nil
}

// machineName is a name for a machine that is called after a file.
func machineName(file string) string {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune("_.+-", r) || r < 0x80 && (r >= '0' && r <= '9' || r|0x20 >= 'a' && r|0x20 <= 'z') {
			return r
		}
		return '-'
	}, path.Base(file))
	name = strings.TrimLeft(strings.TrimSuffix(name, path.Ext(name)), "_.+-")
	if name == "" {
		return "disk"
	}
	return name[:min(len(name), 64)]
}

// firmwareOf is the firmware that starts a disk.
func firmwareOf(img disk.Image) (string, error) {
	bios, err := hasBootCode(img)
	if err != nil {
		return "", err
	}
	uefi := hasEFILoader(img)
	_, _, missing := vm.FindFirmware(false)
	switch {
	case uefi && (missing == nil || !bios):
		return "uefi", nil
	case bios:
		return "bios", nil
	}
	return "", ErrNoLoader
}

// hasBootCode reports whether a BIOS finds something to start: a boot sector with more in
// it than a partition table, or the boot record of a CD (El Torito, 2.0).
func hasBootCode(img disk.Image) (bool, error) {
	const bootRecordAt = 17 * 2048
	sector, record := make([]byte, 512), make([]byte, 39)
	for at, data := range map[int64][]byte{0: sector, bootRecordAt: record} {
		if at+int64(len(data)) > img.Size() {
			continue
		}
		if _, err := img.ReadAt(data, at); err != nil {
			return false, err
		}
	}
	code := bytes.Trim(sector[:440], "\x00")
	return len(code) > 0 && sector[510] == 0x55 && sector[511] == 0xaa ||
		bytes.HasPrefix(record, []byte("\x00CD001\x01EL TORITO SPECIFICATION")), nil
}

// hasEFILoader reports whether an EFI system partition has the loader that firmware
// starts which knows nothing of the disk (UEFI 2.10, 3.5.1.1).
func hasEFILoader(img disk.Image) bool {
	table, err := partition.ReadTable(img, 0)
	if err != nil {
		return false
	}
	for _, p := range table.Partitions {
		if p.TypeName != "efi" {
			continue
		}
		section := disk.Section(img, p.Start, p.Length)
		if files, err := fsys.NewReader(section, section.Size()); err == nil && hasFile(files, "EFI", "BOOT", "BOOTX64.EFI") {
			return true
		}
	}
	return false
}

// hasFile looks for a file, whatever the case of its names.
func hasFile(files fs.FS, names ...string) bool {
	at := "."
	for _, name := range names {
		entries, _ := fs.ReadDir(files, at) // what can't be read is not there
		i := slices.IndexFunc(entries, func(e fs.DirEntry) bool { return strings.EqualFold(e.Name(), name) })
		if i < 0 {
			return false
		}
		at = path.Join(at, entries[i].Name())
	}
	return true
}
