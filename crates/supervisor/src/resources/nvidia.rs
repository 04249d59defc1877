//! The NVIDIA GPUs of this machine, with the UUIDs that their driver gives them.
//!
//! The driver says them in `/proc`, which takes no time and no library. It does not where a GPU is divided (MIG), where
//! it has not been woken up yet (the UUID is all question marks), and in containers that have the devices without that
//! part of `/proc`. Then `nvidia-smi -L` is asked, for a few seconds at most. No driver is no error: there are none then.

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use eagleray_types::control::Device;

const OF_DRIVER: &str = "/proc/driver/nvidia";
/// The first device, or what leads to all of them.
const DEVICES: [&str; 3] = ["/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg"];
/// A driver that has to be loaded first takes a second or two for each GPU.
const LIST_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// In the order of the bus.
pub(super) fn devices() -> Vec<Device> {
    let driver = Path::new(OF_DRIVER);
    let found = of_driver(driver);
    let is_whole = found.iter().all(|device| !device.id.contains('?')) && !is_divided(driver);
    if is_whole && !found.is_empty() {
        return found;
    }
    if found.is_empty() && !DEVICES.iter().any(|device| Path::new(device).exists()) {
        return Vec::new();
    }
    let listed = list().map(|text| of_list(&text)).unwrap_or_default();
    if !listed.is_empty() {
        return listed;
    }
    // Their numbers are names too.
    let numbered = found.into_iter().enumerate();
    numbered
        .map(|(number, device)| Device {
            id: number.to_string(),
            ..device
        })
        .collect()
}

fn of_driver(driver: &Path) -> Vec<Device> {
    let entries = fs::read_dir(driver.join("gpus")).into_iter().flatten();
    let mut places: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    places.sort();
    let texts = places.into_iter().map(|place| place.join("information"));
    texts
        .filter_map(|path| of_information(&fs::read_to_string(path).ok()?))
        .collect()
}

/// One `information`: lines `NAME:  VALUE`.
fn of_information(text: &str) -> Option<Device> {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches(':').trim().to_owned())
    };
    Some(Device {
        id: value("GPU UUID")?,
        model: value("Model").unwrap_or_default(),
    })
}

/// Whether a GPU has instances of its own.
fn is_divided(driver: &Path) -> bool {
    let gpus = fs::read_dir(driver.join("capabilities"))
        .into_iter()
        .flatten();
    let mut instances = gpus
        .flatten()
        .filter_map(|gpu| fs::read_dir(gpu.path().join("mig")).ok())
        .flat_map(Iterator::flatten);
    instances.any(|entry| entry.file_name().to_string_lossy().starts_with("gi"))
}

/// What `nvidia-smi -L` prints, if it does soon.
fn list() -> Option<String> {
    let mut child = Command::new("nvidia-smi")
        .arg("-L")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let until = Instant::now() + LIST_WITHIN;
    // A line a device: they fit into the pipe.
    while child.try_wait().ok()?.is_none() {
        if Instant::now() > until {
            child.kill().ok();
            child.wait().ok();
            tracing::warn!("nvidia-smi -L has not answered, so GPUs are known by their numbers");
            return None;
        }
        thread::sleep(LOOK_AGAIN);
    }
    let mut text = String::new();
    child.stdout?.read_to_string(&mut text).ok()?;
    Some(text)
}

/// `GPU 0: NVIDIA H200 (UUID: GPU-...)`, and below a divided one its instances.
fn of_list(text: &str) -> Vec<Device> {
    let mut devices: Vec<Device> = Vec::new();
    let mut divided = String::new();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once("(UUID: ") else {
            continue;
        };
        let id = rest.trim_end().trim_end_matches(')').to_owned();
        let is_instance = line.starts_with(char::is_whitespace);
        if is_instance {
            // The whole of it can be used no more.
            devices.retain(|device| device.id != divided);
        } else {
            divided.clone_from(&id);
        }
        let name = name.trim();
        let model = match (is_instance, name.split_once(": ")) {
            (false, Some((_, model))) => model,
            _ => name,
        };
        devices.push(Device {
            id,
            model: model.to_owned(),
        });
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_names_each_gpu() {
        let directory = tempfile::tempdir().unwrap();
        for (place, text) in [
            (
                "0000:b3:00.0",
                "Model: \t\t NVIDIA H200\nIRQ:   1\nGPU UUID: \t GPU-2\n",
            ),
            (
                "0000:17:00.0",
                "Model: \t\t NVIDIA H200\nGPU UUID: \t GPU-1\nDevice Minor: \t 0\n",
            ),
            ("0000:ff:00.0", "nothing\n"),
        ] {
            let place = directory.path().join("gpus").join(place);
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("information"), text).unwrap();
        }
        let found = of_driver(directory.path());
        let said: Vec<_> = found
            .iter()
            .map(|one| (one.id.as_str(), one.model.as_str()))
            .collect();
        assert_eq!(said, [("GPU-1", "NVIDIA H200"), ("GPU-2", "NVIDIA H200")]);
        assert!(!is_divided(directory.path()));
        fs::create_dir_all(directory.path().join("capabilities/gpu0/mig/gi1")).unwrap();
        assert!(is_divided(directory.path()));
        assert_eq!(of_driver(&directory.path().join("nothing")), []);
    }

    #[test]
    fn a_divided_gpu_is_its_instances() {
        let text = "GPU 0: NVIDIA A100 (UUID: GPU-a)\n  MIG 1g.10gb     Device  0: (UUID: MIG-1)\n  \
                    MIG 1g.10gb     Device  1: (UUID: MIG-2)\nGPU 1: NVIDIA A100 (UUID: GPU-b)\n";
        let devices = of_list(text);
        let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
        assert_eq!(ids, ["MIG-1", "MIG-2", "GPU-b"]);
        assert_eq!(devices[2].model, "NVIDIA A100");
        assert_eq!(of_list("No devices were found\n"), []);
    }
}
