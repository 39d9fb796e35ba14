"""Devices: where compiled libraries run and are timed."""

from mpqdeploy.targets.devices.base import Device
from mpqdeploy.targets.devices.local import LocalDevice, pinned
from mpqdeploy.targets.devices.rpc import RpcDevice

__all__ = ["Device", "LocalDevice", "RpcDevice", "pinned"]
