package cloudinit

// moduleNames are the modules that can be listed in cloud_init_modules and so
// on, with dashes or underscores.
func moduleNames() []string {
	return []string{
		"ansible", "apk-configure", "apt-configure", "apt-pipelining", "bootcmd", "byobu", "ca-certs", "chef",
		"disable-ec2-metadata", "disk-setup", "fan", "final-message", "growpart", "grub-dpkg", "install-hotplug", "keyboard",
		"keys-to-console", "landscape", "locale", "lxd", "mcollective", "migrator", "mounts", "ntp",
		"package-update-upgrade-install", "phone-home", "power-state-change", "puppet", "refresh-rmc-and-interface", "reset-rmc", "resizefs", "resolv-conf",
		"rh-subscription", "rightscale-userdata", "rsyslog", "runcmd", "salt-minion", "scripts-per-boot", "scripts-per-instance", "scripts-per-once",
		"scripts-user", "scripts-vendor", "seed-random", "set-hostname", "set-passwords", "snap", "spacewalk", "ssh",
		"ssh-authkey-fingerprints", "ssh-import-id", "timezone", "ubuntu-advantage", "ubuntu-autoinstall", "ubuntu-drivers", "update-etc-hosts", "update-hostname",
		"users-groups", "wireguard", "write-files", "write-files-deferred", "yum-add-repo", "zypper-add-repo", "raspberry-pi", "ubuntu-pro",
	}
}

func rulesDisableEc2Metadata() rules {
	return rules{
		"disable_ec2_metadata": tBool(),
	}
}

func rulesDiskSetup() rules {
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

func rulesFan() rules {
	return rules{
		"fan": tMap(rules{
			"config":      tText(),
			"config_path": tText(),
		}).needs("config"),
	}
}

func rulesFinalMessage() rules {
	return rules{
		"final_message": tText(),
	}
}

func rulesGrowpart() rules {
	return rules{
		"growpart": tMap(rules{
			"mode":                     tOne(tEnum("auto", "growpart", "gpart", "off"), tEnum(false).old()),
			"devices":                  tList(tText()),
			"ignore_growroot_disabled": tBool(),
		}),
	}
}

func rulesGrubDpkg() rules {
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

func rulesInstallHotplug() rules {
	return rules{
		"updates": tMap(rules{
			"network": tMap(rules{
				"when": tList(tEnum("boot-new-instance", "boot-legacy", "boot", "hotplug")),
			}).needs("when"),
		}),
	}
}

func rulesKeyboard() rules {
	return rules{
		"keyboard": tMap(rules{
			"layout":  tText(),
			"model":   tText(),
			"variant": tText(),
			"options": tText(),
		}).needs("layout"),
	}
}

func rulesKeysToConsole() rules {
	return rules{
		"ssh": tMap(rules{
			"emit_keys_to_console": tBool(),
		}).needs("emit_keys_to_console"),
		"ssh_key_console_blacklist": tList(tText()).distinct(),
		"ssh_fp_console_blacklist":  tList(tText()).distinct(),
	}
}

func rulesLandscape() rules {
	return rules{
		"landscape": tMap(rules{
			"client": tOpenMap(rules{
				"url":              tText(),
				"ping_url":         tText(),
				"data_path":        tText(),
				"log_level":        tEnum("debug", "info", "warning", "error", "critical"),
				"computer_title":   tText(),
				"account_name":     tText(),
				"registration_key": tText(),
				"tags":             tText().match(`^[-_0-9a-zA-Z]+(,[-_0-9a-zA-Z]+)*$`),
				"http_proxy":       tText(),
				"https_proxy":      tText(),
			}),
		}).needs("client"),
	}
}

func rulesLocale() rules {
	return rules{
		"locale":            tKind(isText | isBool),
		"locale_configfile": tText(),
	}
}

func rulesLxd() rules {
	return rules{
		"lxd": tMap(rules{
			"init": tMap(rules{
				"network_address":       tText(),
				"network_port":          tInt(),
				"storage_backend":       tEnum("zfs", "dir", "lvm", "btrfs"),
				"storage_create_device": tText(),
				"storage_create_loop":   tInt(),
				"storage_pool":          tText(),
				"trust_password":        tText(),
			}),
			"bridge": tMap(rules{
				"mode":             tEnum("none", "existing", "new"),
				"name":             tText(),
				"mtu":              tInt().from(-1),
				"ipv4_address":     tText(),
				"ipv4_netmask":     tInt(),
				"ipv4_dhcp_first":  tText(),
				"ipv4_dhcp_last":   tText(),
				"ipv4_dhcp_leases": tInt(),
				"ipv4_nat":         tBool(),
				"ipv6_address":     tText(),
				"ipv6_netmask":     tInt(),
				"ipv6_nat":         tBool(),
				"domain":           tText(),
			}).needs("mode"),
			"preseed": tText(),
		}).least(1),
	}
}
