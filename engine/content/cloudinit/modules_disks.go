package cloudinit

func diskSetup() rules {
	return rules{
		"device_aliases": tMap(nil).named(`^.+$`, tText()),
		"disk_setup": tMap(nil).named(`^.+$`, tMap(rules{
			"table_type": tEnum("mbr", "gpt"),
			"layout":     tOne(tEnum("remove"), tBool(), tList(tOne(tInt(), tList(tKind(isInt|isText)).min(2).max(2)))),
			"overwrite":  tBool(),
		})),
		"fs_setup": tList(tMap(rules{
			"label":      tText(),
			"filesystem": tText(),
			"device":     tText(),
			"partition":  tKind(isText | isInt).oneOf(tEnum("auto", "any", "none")),
			"overwrite":  tBool(),
			"replace_fs": tText(),
			"extra_opts": tKind(isList | isText).each(tText()),
			"cmd":        tKind(isList | isText).each(tText()),
		})),
	}
}

func growpart() rules {
	return rules{
		"growpart": tMap(rules{
			"mode":                     tOne(tEnum("auto", "growpart", "gpart", "off"), tEnum(false).old()),
			"devices":                  tList(tText()),
			"ignore_growroot_disabled": tBool(),
		}),
	}
}

func grubDpkg() rules {
	return rules{
		"grub_dpkg": tMap(rules{
			"enabled":                       tBool(),
			"grub-pc/install_devices":       tText(),
			"grub-efi/install_devices":      tText(),
			"grub-pc/install_devices_empty": tOne(tBool(), tText().old()),
		}),
		"grub-dpkg": tOpenMap(nil).old(),
	}
}

func mounts() rules {
	return rules{
		"mounts":               tList(tList(tText()).min(1).max(6)).min(1),
		"mount_default_fields": tList(tOne(tText(), tNull())).min(6).max(6),
		"swap": tMap(rules{
			"filename": tText(),
			"size":     tOne(tEnum("auto"), tInt(), tText().match(`^([0-9]+)?\.?[0-9]+[BKMGT]$`)),
			"maxsize":  tOne(tInt(), tText().match(`^([0-9]+)?\.?[0-9]+[BKMGT]$`)),
		}),
	}
}

func resizefs() rules {
	return rules{
		"resize_rootfs": tEnum(true, false, "noblock"),
	}
}
