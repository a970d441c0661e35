package cloudinit

// modules are the tables of keys, one for each module of cloud-init 22.4.
func modules() []func() rules {
	return []func() rules{
		baseConfig,
		ansible,
		apkConfigure,
		aptConfigure,
		aptPipelining,
		ubuntuAutoinstall,
		bootcmd,
		byobu,
		caCerts,
		chef,
		disableEc2Metadata,
		diskSetup,
		fan,
		finalMessage,
		growpart,
		grubDpkg,
		installHotplug,
		keyboard,
		keysToConsole,
		landscape,
		locale,
		lxd,
		mcollective,
		migrator,
		mounts,
		ntp,
		packageUpdateUpgradeInstall,
		phoneHome,
		powerStateChange,
		puppet,
		resizefs,
		resolvConf,
		rhSubscription,
		rsyslog,
		runcmd,
		saltMinion,
		scriptsVendor,
		seedRandom,
		setHostname,
		setPasswords,
		snap,
		spacewalk,
		sshAuthkeyFingerprints,
		sshImportID,
		ssh,
		timezone,
		ubuntuAdvantage,
		ubuntuDrivers,
		updateEtcHosts,
		updateHostname,
		usersGroups,
		wireguard,
		writeFiles,
		yumAddRepo,
		zypperAddRepo,
		reportingConfig,
	}
}

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

func baseConfig() rules {
	return rules{
		"cloud_init_modules":   moduleListRule(),
		"cloud_config_modules": moduleListRule(),
		"cloud_final_modules":  moduleListRule(),
	}
}
