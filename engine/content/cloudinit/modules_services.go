package cloudinit

import "b9.build/b9/engine/content/yaml"

func ansible() rules {
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
// cloud-init accept a list.
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
// accept a single one, later ones a list.
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

func chef() rules {
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

func puppet() rules {
	return rules{
		"puppet": tMap(rules{
			"install":             tBool(),
			"version":             tText(),
			"install_type":        tEnum("packages", "aio"),
			"collection":          tText(),
			"aio_install_url":     tText(),
			"cleanup":             tBool(),
			"conf_file":           tText(),
			"ssl_dir":             tText(),
			"csr_attributes_path": tText(),
			"package_name":        tText(),
			"exec":                tBool(),
			"exec_args":           tList(tText()),
			"start_service":       tBool(),
			"conf": tMap(rules{
				"main":    tOpenMap(nil),
				"server":  tOpenMap(nil),
				"agent":   tOpenMap(nil),
				"user":    tOpenMap(nil),
				"ca_cert": tText(),
			}),
			"csr_attributes": tMap(rules{
				"custom_attributes":  tOpenMap(nil),
				"extension_requests": tOpenMap(nil),
			}),
		}),
	}
}

func mcollective() rules {
	return rules{
		"mcollective": tMap(rules{
			"conf": tMap(rules{
				"public-cert":  tText(),
				"private-cert": tText(),
			}).named(`^.+$`, tOne(tBool(), tInt(), tText())),
		}),
	}
}

func saltMinion() rules {
	return rules{
		"salt_minion": tMap(rules{
			"pkg_name":     tText(),
			"service_name": tText(),
			"config_dir":   tText(),
			"conf":         tOpenMap(nil),
			"grains":       tOpenMap(nil),
			"public_key":   tText(),
			"private_key":  tText(),
			"pki_dir":      tText(),
		}),
	}
}

func landscape() rules {
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

func lxd() rules {
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

func ntp() rules {
	return rules{
		"ntp": tKind(isNull | isMap).with(rules{
			"pools":      tList(tText()).distinct(),
			"servers":    tList(tText()).distinct(),
			"peers":      tList(tText()).distinct(),
			"allow":      tList(tText()).distinct(),
			"ntp_client": tText(),
			"enabled":    tBool(),
			"config": tMap(rules{
				"confpath":     tText(),
				"check_exe":    tText(),
				"packages":     tList(tText()).distinct(),
				"service_name": tText(),
				"template":     tText(),
			}).least(1),
		}).only(),
	}
}

func rsyslog() rules {
	return rules{
		"rsyslog": tMap(rules{
			"config_dir":      tText(),
			"config_filename": tText(),
			"configs": tList(tOne(tText(), tMap(rules{
				"filename": tText(),
				"content":  tText(),
			}).needs("content"))),
			"remotes":                tOpenMap(nil),
			"service_reload_command": tOne(tEnum("auto"), tList(tText())),
			"install_rsyslog":        tBool(),
			"check_exe":              tText(),
			"packages":               tList(tText()).distinct(),
		}),
	}
}

func wireguard() rules {
	return rules{
		"wireguard": tKind(isNull | isMap).with(rules{
			"interfaces": tList(tMap(rules{
				"name":        tText(),
				"config_path": tText(),
				"content":     tText(),
			})).min(1),
			"readinessprobe": tList(tText()).distinct(),
		}).only().needs("interfaces").least(1),
	}
}

func fan() rules {
	return rules{
		"fan": tMap(rules{
			"config":      tText(),
			"config_path": tText(),
		}).needs("config"),
	}
}

func reportingConfig() rules {
	return rules{
		"reporting": tMap(nil).named(`^.+$`, tOpenMap(nil).oneOf(tAny().with(rules{
			"type":  tEnum("log"),
			"level": tEnum("DEBUG", "INFO", "WARN", "ERROR", "FATAL"),
		}).only().needs("type"), tAny().with(rules{
			"type": tEnum("print"),
		}).only().needs("type"), tAny().with(rules{
			"type":            tEnum("webhook"),
			"endpoint":        tText(),
			"consumer_key":    tText(),
			"token_key":       tText(),
			"token_secret":    tText(),
			"consumer_secret": tText(),
			"timeout":         tReal().from(0),
			"retries":         tInt().from(0),
		}).only().needs("type", "endpoint"), tAny().with(rules{
			"type":          tEnum("hyperv"),
			"kvp_file_path": tText(),
			"event_types":   tList(tText()),
		}).only().needs("type"))),
	}
}

func phoneHome() rules {
	return rules{
		"phone_home": tMap(rules{
			"url":   tText(),
			"post":  tOne(tEnum("all"), tList(tEnum("pub_key_dsa", "pub_key_rsa", "pub_key_ecdsa", "pub_key_ed25519", "instance_id", "hostname", "fqdn"))),
			"tries": tInt(),
		}).needs("url"),
	}
}
