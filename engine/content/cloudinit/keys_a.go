package cloudinit

import (
	"b9/engine/content/yaml"
)

// modules are the tables of keys, one for each module of cloud-init 22.4.
func modules() []func() rules {
	return []func() rules{
		rulesBaseConfig,
		rulesAnsible,
		rulesApkConfigure,
		rulesAptConfigure,
		rulesAptPipelining,
		rulesUbuntuAutoinstall,
		rulesBootcmd,
		rulesByobu,
		rulesCaCerts,
		rulesChef,
		rulesDisableEc2Metadata,
		rulesDiskSetup,
		rulesFan,
		rulesFinalMessage,
		rulesGrowpart,
		rulesGrubDpkg,
		rulesInstallHotplug,
		rulesKeyboard,
		rulesKeysToConsole,
		rulesLandscape,
		rulesLocale,
		rulesLxd,
		rulesMcollective,
		rulesMigrator,
		rulesMounts,
		rulesNtp,
		rulesPackageUpdateUpgradeInstall,
		rulesPhoneHome,
		rulesPowerStateChange,
		rulesPuppet,
		rulesResizefs,
		rulesResolvConf,
		rulesRhSubscription,
		rulesRsyslog,
		rulesRuncmd,
		rulesSaltMinion,
		rulesScriptsVendor,
		rulesSeedRandom,
		rulesSetHostname,
		rulesSetPasswords,
		rulesSnap,
		rulesSpacewalk,
		rulesSshAuthkeyFingerprints,
		rulesSshImportId,
		rulesSsh,
		rulesTimezone,
		rulesUbuntuAdvantage,
		rulesUbuntuDrivers,
		rulesUpdateEtcHosts,
		rulesUpdateHostname,
		rulesUsersGroups,
		rulesWireguard,
		rulesWriteFiles,
		rulesYumAddRepo,
		rulesZypperAddRepo,
		rulesReportingConfig,
	}
}

func rulesBaseConfig() rules {
	return rules{
		"cloud_init_modules":   moduleListRule(),
		"cloud_config_modules": moduleListRule(),
		"cloud_final_modules":  moduleListRule(),
	}
}

func rulesAnsible() rules {
	return rules{
		"ansible": tMap(rules{
			"install_method": tEnum("distro", "pip"),
			"run_user":       tText(),
			"ansible_config": tText(),
			"setup_controller": tMap(rules{
				"repositories": tList(tMap(rules{
					"path":   tText(),
					"source": tText(),
				}).needs("path", "source")),
				"run_ansible": tList(tAny().with(rules{
					"playbook_name":            tText(),
					"playbook_dir":             tText(),
					"become_password_file":     tText(),
					"connection_password_file": tText(),
					"list_hosts":               tBool(),
					"syntax_check":             tBool(),
					"timeout":                  tReal().from(0),
					"vault_id":                 tText(),
					"vault_password_file":      tText(),
					"background":               tReal().from(0),
					"check":                    tBool(),
					"diff":                     tBool(),
					"module_path":              tText(),
					"poll":                     tReal().from(0),
					"args":                     tText(),
					"extra_vars":               tText(),
					"forks":                    tReal().from(0),
					"inventory":                tText(),
					"scp_extra_args":           tText(),
					"sftp_extra_args":          tText(),
					"private_key":              tText(),
					"connection":               tText(),
					"module_name":              tText(),
					"sleep":                    tText(),
					"tags":                     tText(),
					"skip_tags":                tText(),
				})),
			}),
			"galaxy": tMap(rules{
				"actions": tList(tList(tText().match(`^.*$`))),
			}).needs("actions"),
			"package_name": tText(),
			"pull":         tOne(ansiblePullRule(), tList(ansiblePullRule())),
		}),
	}
}

// checkPlaybook holds what is pulled to a playbook, of which later versions of
// cloud-init take a list.
func checkPlaybook(n *yaml.Node) (name, problem string) {
	fields, ok := n.Value.(yaml.Fields)
	one, many := fields.Get("playbook_name") != nil, fields.Get("playbook_names") != nil
	switch {
	case !ok || one != many:
		return "", ""
	case one:
		return findValue, `there is either a "playbook_name" or a list "playbook_names", not both`
	}
	return findMissing, `the key "playbook_name" is missing`
}

// ansiblePullRule is one playbook to pull. Versions of cloud-init before 25.2
// take a single one, later ones a list.
func ansiblePullRule() *rule {
	return tMap(rules{
		"accept_host_key":     tBool(),
		"clean":               tBool(),
		"full":                tBool(),
		"diff":                tBool(),
		"ssh_common_args":     tText(),
		"scp_extra_args":      tText(),
		"sftp_extra_args":     tText(),
		"private_key":         tText(),
		"checkout":            tText(),
		"module_path":         tText(),
		"timeout":             tText(),
		"url":                 tText(),
		"connection":          tText(),
		"vault_id":            tText(),
		"vault_password_file": tText(),
		"module_name":         tText(),
		"sleep":               tText(),
		"tags":                tText(),
		"skip_tags":           tText(),
		"playbook_name":       tText(),
		"playbook_names":      tList(tText()),
		"inventory":           tText(),
		"verify_commit":       tBool(),
	}).needs("url").check(checkPlaybook)
}

func rulesApkConfigure() rules {
	return rules{
		"apk_repos": tMap(rules{
			"preserve_repositories": tBool(),
			"alpine_repo": tKind(isMap | isNull).with(rules{
				"base_url":          tText(),
				"community_enabled": tBool(),
				"testing_enabled":   tBool(),
				"version":           tText(),
			}).only().needs("version").least(1),
			"local_repo_base_url": tText(),
		}).least(1),
	}
}

func rulesAptConfigure() rules {
	return rules{
		"apt": tMap(rules{
			"preserve_sources_list": tBool(),
			"generate_mirrorlists":  tBool(),
			"disable_suites":        tList(tText()).min(1).distinct(),
			"primary":               aptMirrorRule(),
			"security":              aptMirrorRule(),
			"add_apt_repo_match":    tText(),
			"debconf_selections":    tMap(nil).least(1).named(`^.+$`, tText()),
			"sources_list":          tText(),
			"conf":                  tText(),
			"https_proxy":           tText(),
			"http_proxy":            tText(),
			"proxy":                 tText(),
			"ftp_proxy":             tText(),
			"sources": tMap(nil).named(`^.+$`, tMap(rules{
				"source":    tText(),
				"keyid":     tText(),
				"key":       tText(),
				"keyserver": tText(),
				"filename":  tText(),
				"append":    tBool(),
			}).least(1)),
		}).least(1),
	}
}

func rulesAptPipelining() rules {
	return rules{
		"apt_pipelining": tOne(tInt(), tBool(), tEnum("none", "unchanged", "os")),
	}
}

func rulesUbuntuAutoinstall() rules {
	return rules{
		"autoinstall": tOpenMap(rules{
			"version": tInt(),
		}).needs("version"),
	}
}

func rulesBootcmd() rules {
	return rules{
		"bootcmd": tList(tOne(tList(tText()), tText())).min(1),
	}
}

func rulesByobu() rules {
	return rules{
		"byobu_by_default": tEnum("enable-system", "enable-user", "disable-system", "disable-user", "enable", "disable", "user", "system"),
	}
}

func rulesCaCerts() rules {
	return rules{
		"ca_certs": caCertsRule(),
		"ca-certs": caCertsRule().old(),
	}
}

func rulesChef() rules {
	return rules{
		"chef": tMap(rules{
			"config_path":               tText(),
			"directories":               tList(tText()).min(1).distinct(),
			"validation_cert":           tText(),
			"validation_key":            tText(),
			"firstboot_path":            tText(),
			"exec":                      tBool(),
			"client_key":                tText(),
			"encrypted_data_bag_secret": tText(),
			"environment":               tText(),
			"file_backup_path":          tText(),
			"file_cache_path":           tText(),
			"json_attribs":              tText(),
			"log_level":                 tText(),
			"log_location":              tText(),
			"node_name":                 tText(),
			"omnibus_url":               tText(),
			"omnibus_url_retries":       tInt(),
			"omnibus_version":           tText(),
			"pid_file":                  tText(),
			"server_url":                tText(),
			"show_time":                 tBool(),
			"ssl_verify_mode":           tText(),
			"validation_name":           tText(),
			"force_install":             tBool(),
			"initial_attributes":        tOpenMap(nil).each(tText()),
			"install_type":              tEnum("packages", "gems", "omnibus"),
			"run_list":                  tList(tText()),
			"chef_license":              tText(),
		}).least(1),
	}
}
