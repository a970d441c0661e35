package doctor

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

func kernelRelease() check {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return warn("kernel", err.Error(), "")
	}
	return ok("kernel", fmt.Sprintf("Linux %s %s", unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])))
}

const loopControl = "/dev/loop-control"

// loopDevices asks for a free loop device, and attaches nothing to it.
func loopDevices() check {
	c := check{Name: "loop devices", Status: statusFail, Fix: "as root: modprobe loop; in a container, give it " + loopControl + " and the loop devices"}
	f, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	defer f.Close()
	n, err := unix.IoctlRetInt(int(f.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		c.Detail = fmt.Sprintf("%s: no free loop device: %v", loopControl, err)
		return c
	}
	free := fmt.Sprintf("/dev/loop%d", n)
	if _, err := os.Stat(free); err != nil {
		c.Detail = fmt.Sprintf("%s is free but has no device node", free)
		return c
	}
	return ok(c.Name, free+" is free")
}

// supports reports whether the kernel has a file system, now or as a module
// that mounting would load.
func (d *Host) supports(name string) bool {
	data, err := fs.ReadFile(d.Root, "proc/filesystems")
	if err == nil && slices.Contains(strings.Fields(string(data)), name) {
		return true
	}
	release, err := fs.ReadFile(d.Root, "proc/sys/kernel/osrelease")
	if err != nil {
		return false
	}
	if name == "iso9660" {
		name = "isofs" // the module's name
	}
	for _, list := range []string{"modules.builtin", "modules.dep"} {
		data, err := fs.ReadFile(d.Root, path.Join("lib/modules", strings.TrimSpace(string(release)), list))
		if err == nil && strings.Contains(string(data), "/"+name+".ko") {
			return true
		}
	}
	return false
}

func (d *Host) fileSystems() check {
	if d.supports("ext4") {
		return ok("ext4", "the kernel mounts it")
	}
	return fail("ext4", "the kernel has no ext4, which images are made of", "modprobe ext4, or use a kernel that has it")
}

// optionalFileSystems are those whose absence only matters to images that
// have them. Some are served by b9 where there is no driver.
func (d *Host) optionalFileSystems() check {
	const name = "other file systems"
	mounted, lack := d.supported("xfs", "btrfs", "overlay", "vfat", "iso9660", "squashfs", "tmpfs")
	c := ok(name, "the kernel mounts "+strings.Join(mounted, ", "))
	var served, missing []string
	for _, fs := range lack {
		switch fs {
		case "vfat", "iso9660", "squashfs":
			served = append(served, fs)
		case "overlay":
			c.Detail += "; not overlay: roots that are only read need every mount point"
		default:
			missing = append(missing, fs)
		}
	}
	if len(missing) > 0 {
		c.Detail += "; not " + strings.Join(missing, ", ") + ": images that hold one cannot be mounted"
	}
	if len(served) == 0 {
		return c
	}
	f, err := os.OpenFile(cmp.Or(d.Fuse, fuseDevice), os.O_RDWR, 0)
	if err == nil {
		err = f.Close()
	}
	list := strings.Join(served, ", ")
	if err != nil {
		return warn(name, c.Detail+"; not "+list+": "+fuseDevice+" does not open: "+err.Error(), "images that hold one need it: as root: modprobe fuse; in a container, give it "+fuseDevice)
	}
	c.Detail += "; b9 serves " + list + " through " + fuseDevice
	return c
}

const fuseDevice = "/dev/fuse"

// supported divides file systems into those that the kernel has a driver for, and
// the rest.
func (d *Host) supported(names ...string) (have, lack []string) {
	for _, name := range names {
		if d.supports(name) {
			have = append(have, name)
		} else {
			lack = append(lack, name)
		}
	}
	return have, lack
}

// cgroupMounts finds the mounts of control groups: the mount points of
// version 2, and the controllers of version 1.
func cgroupMounts(mountinfo string) (v2, v1 []string) {
	for line := range strings.Lines(mountinfo) {
		head, tail, ok := strings.Cut(line, " - ")
		fields, kind := strings.Fields(head), strings.Fields(tail)
		if !ok || len(fields) < 5 || len(kind) < 3 {
			continue
		}
		switch kind[0] {
		case "cgroup2":
			v2 = append(v2, fields[4])
		case "cgroup":
			v1 = append(v1, strings.Split(kind[2], ",")...)
		}
	}
	return v2, v1
}

func (d *Host) cgroups() check {
	const name = "control groups"
	info, err := fs.ReadFile(d.Root, "proc/self/mountinfo")
	if err != nil {
		return warn(name, err.Error(), "mount /proc")
	}
	v2, v1 := cgroupMounts(string(info))
	layout, controllers := "none mounted", v1
	switch {
	case len(v1) > 0 && len(v2) > 0:
		layout = "version 1, with version 2 at " + v2[0]
	case len(v1) > 0:
		layout = "version 1"
	case len(v2) > 0:
		layout = "version 2"
		data, err := fs.ReadFile(d.Root, path.Join(strings.TrimPrefix(v2[0], "/"), "cgroup.controllers"))
		if err != nil {
			layout += " (" + err.Error() + ")"
		}
		controllers = strings.Fields(string(data))
	}
	lack := slices.DeleteFunc([]string{"memory", "cpu"}, func(need string) bool { return slices.Contains(controllers, need) })
	if len(lack) == 0 {
		return ok(name, layout+"; memory and processor limits work")
	}
	return warn(name, fmt.Sprintf("%s; no %s controller seen", layout, strings.Join(lack, " or ")),
		"limits may not be possible here: leave memory and cpus of containers at 0 if steps complain, or mount cgroup2 at /sys/fs/cgroup")
}

// userNamespaces only matter without root.
func (d *Host) userNamespaces() check {
	off := []struct{ file, value, why string }{
		{"proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces is 0"},
		{"proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone is 0"},
		{"proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns is 1"},
	}
	c := ok("user namespaces", "for everyone")
	for _, o := range off {
		data, err := fs.ReadFile(d.Root, o.file)
		if err == nil && strings.TrimSpace(string(data)) == o.value {
			c.Detail = "for root only, which is enough: " + o.why
		}
	}
	if _, err := fs.Stat(d.Root, "proc/self/ns/user"); err != nil {
		c.Detail = "the kernel has none; b9 as root does not need them"
	}
	return c
}

const tunDevice = "/dev/net/tun"

// privateNetworks opens what network = "nat" makes interfaces with, and makes none.
func (d *Host) privateNetworks() check {
	const name = "private networks"
	f, err := os.OpenFile(cmp.Or(d.Tun, tunDevice), os.O_RDWR, 0)
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		return ok(name, tunDevice+` opens: network = "nat" works`)
	}
	lack := warn
	if d.Network == "" || d.Network == container.NetworkNAT {
		lack = fail
	}
	return lack(name, err.Error(), `network = "nat" needs it: as root: modprobe tun; in a container, give it `+tunDevice+"; or use this machine's network with -c container.network=host")
}

// kvm only says what it can: that the device opens does not prove that a
// guest would run.
func (d *Host) kvm() check {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return ok("/dev/kvm", "not usable: what was built boots under emulation, ten times slower; building does not need it")
	}
	c := ok("/dev/kvm", "opens, which does not prove that guests run; building does not need it")
	if err := f.Close(); err != nil {
		c.Detail += " (" + err.Error() + ")"
	}
	return c
}
