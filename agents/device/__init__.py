"""Where agents compute: on the processor or on a GPU, and what of theirs lies there.

    def on_creation(self, init):
        self.model = OnDevice(make_model(), pick(init))        # init: "cpu", "cuda:0", or None for the best there is

    def on_arrival(self, arrival=None):
        print("computes on", self.model.to(pick(None)))        # until then the model is in the host's memory

    on_activation = on_clone = on_arrival                      # wherever its state was opened

    def compute(self, pictures):
        return self.model.value(self.model.device.put(pictures))

port.py says what a device can do, on_device.py keeps what lies on one, by_torch.py speaks to PyTorch (the extra
`torch`), which nothing imports until something is put somewhere. See docs/gpu.md.
"""

from agents.device.choice import pick
from agents.device.on_device import OnDevice
from agents.device.port import Device

__all__ = ["Device", "OnDevice", "pick"]
